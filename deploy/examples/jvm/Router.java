import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedWriter;
import java.io.IOException;
import java.lang.reflect.Method;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Routes alerts of Leadpulse, each at most once by its alert_id.
 *
 * <pre>
 * java -cp '.kafka/libs/*' deploy/examples/jvm/Router.java --brokers 127.0.0.1:9092 --rules rules.json
 * java -cp '.kafka/libs/*:avro.jar' deploy/examples/jvm/Router.java --brokers … --rules … --schema schemas/outputs/alert.avsc
 * </pre>
 *
 * Without Avro the headers of a record are enough: they name the alert, its task, severity, state and owner. With Avro on the
 * class path and a schema, rules may name every field of the alert.
 *
 * The topic is read with read_committed. The ledger, a file, remembers an alert_id before the position is committed, so a restart
 * of this program or of the worker makes no second delivery. An alert whose delivery had begun is delivered again under the same
 * id: give it to the receiver as its idempotency key. deliver prints a line: put your call there.
 */
public final class Router {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final List<String> SEVERITIES = List.of("P1", "P2", "P3");
    /** Fields that rules may name without the value: header by field. */
    private static final Map<String, String> IN_HEADERS =
            Map.of("alert_id", "ce_id", "task", "task", "severity", "severity", "state", "state", "owner_id", "owner");

    /** Alerts that were delivered, or whose delivery has begun: lines "begin ID" and "end ID". */
    static final class Ledger implements AutoCloseable {
        private final Set<String> done = new HashSet<>();
        private final FileChannel file;
        private final BufferedWriter lines;

        Ledger(Path path) throws IOException {
            if (Files.exists(path)) {
                for (String line : Files.readAllLines(path)) {
                    if (line.startsWith("end ")) {
                        done.add(line.substring(4));
                    }
                }
            }
            file = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            lines = new BufferedWriter(java.nio.channels.Channels.newWriter(file, StandardCharsets.UTF_8));
            // A line that a crash cut off must not swallow the next one.
            lines.write("\n");
        }

        boolean isDone(String id) {
            return done.contains(id);
        }

        void begin(String id) throws IOException {
            note("begin " + id);
        }

        void end(String id) throws IOException {
            note("end " + id);
            done.add(id);
        }

        private void note(String line) throws IOException {
            lines.write(line + "\n");
            lines.flush();
            // On the disk before anything that follows from it.
            file.force(false);
        }

        @Override
        public void close() throws IOException {
            lines.close();
        }
    }

    /** The first rule whose conditions hold names the destination. A condition is a field with its value, or a list of values. */
    static final class Rules {
        private final List<ObjectNode> rules = new ArrayList<>();

        Rules(JsonNode list, boolean hasValues) {
            for (JsonNode rule : list) {
                if (!rule.hasNonNull("to")) {
                    throw new IllegalArgumentException("a rule names no destination: " + rule + "; add \"to\"");
                }
                rule.fieldNames().forEachRemaining(name -> check(name, hasValues));
                rules.add((ObjectNode) rule);
            }
        }

        private static void check(String name, boolean hasValues) {
            boolean isKnown = name.equals("to") || name.equals("severity_at_least") || IN_HEADERS.containsKey(name);
            if (!isKnown && !hasValues) {
                throw new IllegalArgumentException("rules name " + name + ", which is in no header: put Avro on the class path and pass --schema");
            }
        }

        /** The destination of an alert; null for one that goes nowhere. */
        String destination(JsonNode alert) {
            if (alert.path("state").asText().equals("suppressed") || alert.path("hold_out").asBoolean()) {
                return null;
            }
            for (ObjectNode rule : rules) {
                if (fits(rule, alert)) {
                    return rule.get("to").asText();
                }
            }
            return null;
        }

        private static boolean fits(ObjectNode rule, JsonNode alert) {
            for (var condition : rule.properties()) {
                JsonNode wanted = condition.getValue();
                boolean holds = switch (condition.getKey()) {
                    case "to" -> true;
                    case "severity_at_least" -> isAtLeast(alert.path("severity").asText(), wanted.asText());
                    default -> isOneOf(alert.path(condition.getKey()), wanted);
                };
                if (!holds) {
                    return false;
                }
            }
            return true;
        }

        private static boolean isAtLeast(String severity, String least) {
            int at = SEVERITIES.indexOf(severity);
            return at >= 0 && at <= SEVERITIES.indexOf(least);
        }

        private static boolean isOneOf(JsonNode found, JsonNode wanted) {
            if (!wanted.isArray()) {
                return found.equals(wanted);
            }
            for (JsonNode one : wanted) {
                if (found.equals(one)) {
                    return true;
                }
            }
            return false;
        }
    }

    /** Reads values of the registry's format: a byte 0, four bytes of schema id, Avro. By reflection: Avro need not be there. */
    static final class Values {
        private final Object reader;
        private final Method read;
        private final Object decoders;
        private final Method decoder;

        Values(Path schema) throws Exception {
            Object parser = Class.forName("org.apache.avro.Schema$Parser").getConstructor().newInstance();
            Object parsed = parser.getClass().getMethod("parse", String.class).invoke(parser, Files.readString(schema));
            Class<?> schemas = Class.forName("org.apache.avro.Schema");
            reader = Class.forName("org.apache.avro.generic.GenericDatumReader").getConstructor(schemas).newInstance(parsed);
            Class<?> factory = Class.forName("org.apache.avro.io.DecoderFactory");
            decoders = factory.getMethod("get").invoke(null);
            Class<?> binary = Class.forName("org.apache.avro.io.BinaryDecoder");
            decoder = factory.getMethod("binaryDecoder", byte[].class, int.class, int.class, binary);
            read = reader.getClass().getMethod("read", Object.class, Class.forName("org.apache.avro.io.Decoder"));
        }

        JsonNode read(byte[] value) throws Exception {
            if (value.length < 5 || value[0] != 0) {
                throw new IllegalArgumentException("the value has no Confluent framing; is this the alerts topic?");
            }
            Object bytes = decoder.invoke(decoders, value, 5, value.length - 5, null);
            return JSON.readTree(read.invoke(reader, null, bytes).toString());
        }
    }

    private final Rules rules;
    private final Ledger ledger;
    private final Values values;

    Router(Rules rules, Ledger ledger, Values values) {
        this.rules = rules;
        this.ledger = ledger;
        this.values = values;
    }

    /** Delivers an alert unless it is known or goes nowhere. */
    void take(ConsumerRecord<String, byte[]> record) throws Exception {
        ObjectNode alert = JSON.createObjectNode();
        IN_HEADERS.forEach((field, name) -> {
            Header header = record.headers().lastHeader(name);
            if (header != null) {
                alert.put(field, new String(header.value(), StandardCharsets.UTF_8));
            }
        });
        if (values != null) {
            alert.setAll((ObjectNode) values.read(record.value()));
        }
        String id = alert.path("alert_id").asText();
        if (id.isEmpty()) {
            throw new IllegalArgumentException("the record at " + record.topic() + "/" + record.partition() + "@" + record.offset()
                    + " has no header ce_id: an older worker wrote it; put Avro on the class path and pass --schema");
        }
        String destination = rules.destination(alert);
        if (destination == null || ledger.isDone(id)) {
            return;
        }
        ledger.begin(id);
        deliver(destination, alert);
        ledger.end(id);
    }

    private static void deliver(String destination, ObjectNode alert) {
        ObjectNode line = JSON.createObjectNode();
        line.put("to", destination);
        line.set("idempotency_key", alert.get("alert_id"));
        line.set("severity", alert.get("severity"));
        line.set("state", alert.get("state"));
        line.set("summary", alert.get("summary"));
        System.out.println(line);
        System.out.flush();
    }

    private static Properties consumer(Map<String, String> given) {
        Properties properties = new Properties();
        properties.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, required(given, "brokers"));
        properties.put(ConsumerConfig.GROUP_ID_CONFIG, given.getOrDefault("group", "alert-router"));
        properties.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        properties.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "50");
        properties.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, "org.apache.kafka.common.serialization.StringDeserializer");
        properties.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class.getName());
        return properties;
    }

    private static String required(Map<String, String> given, String name) {
        String value = given.get(name);
        if (value == null) {
            throw new IllegalArgumentException("--" + name + " is missing; pass --brokers HOST:PORT and --rules FILE");
        }
        return value;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> given = new HashMap<>();
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            given.put(arguments[at].replaceFirst("^--", ""), arguments[at + 1]);
        }
        Values values = given.containsKey("schema") ? new Values(Path.of(given.get("schema"))) : null;
        Rules rules = new Rules(JSON.readTree(Files.readString(Path.of(required(given, "rules")))), values != null);
        long most = Long.parseLong(given.getOrDefault("most", String.valueOf(Long.MAX_VALUE)));
        try (Ledger ledger = new Ledger(Path.of(given.getOrDefault("ledger", "router.ledger")));
                KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(consumer(given))) {
            Router router = new Router(rules, ledger, values);
            consumer.subscribe(List.of(given.getOrDefault("topic", "scoring.alerts.v1")));
            long taken = 0;
            while (taken < most) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    router.take(record);
                    taken++;
                }
                // After the deliveries: a crash before this line shows them again, and the ledger knows them.
                consumer.commitSync();
            }
        }
    }
}
