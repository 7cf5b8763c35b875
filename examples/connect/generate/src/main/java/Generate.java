import io.apicurio.registry.utils.converter.avro.AvroData;
import io.debezium.data.Envelope;
import io.debezium.time.Date;
import io.debezium.time.MicroTimestamp;
import io.debezium.time.ZonedTimestamp;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.PrintWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.connect.data.Decimal;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;

/** Writes changes of a table of accounts as Debezium's schemas and Connect's converters encode them. */
public final class Generate {
    private static final Schema KEY =
            SchemaBuilder.struct().name("crm.public.account.Key").field("id", Schema.INT64_SCHEMA).build();
    private static final Schema SOURCE = SchemaBuilder.struct()
            .name("io.debezium.connector.postgresql.Source")
            .field("connector", Schema.STRING_SCHEMA)
            .field("ts_ms", Schema.INT64_SCHEMA)
            .field("snapshot", Schema.OPTIONAL_STRING_SCHEMA)
            .field("schema", Schema.STRING_SCHEMA)
            .field("table", Schema.STRING_SCHEMA)
            .build();

    /** A table's schemas; the revenue is Connect's decimal, or a double as {@code decimal.handling.mode=double} makes it. */
    private record Table(Schema row, Envelope envelope, boolean isDecimal) {
        static Table of(boolean isDecimal) {
            Schema row = SchemaBuilder.struct()
                    .name("crm.public.account.Value").optional()
                    .field("id", Schema.INT64_SCHEMA)
                    .field("name", Schema.OPTIONAL_STRING_SCHEMA)
                    .field("domain", Schema.OPTIONAL_STRING_SCHEMA)
                    .field("annual_revenue",
                            isDecimal ? Decimal.builder(2).optional().build() : Schema.OPTIONAL_FLOAT64_SCHEMA)
                    .field("founded", Date.builder().optional().build())
                    .field("renewal_at", ZonedTimestamp.builder().optional().build())
                    .field("updated_at", MicroTimestamp.builder().build())
                    .build();
            Envelope envelope = Envelope.defineSchema()
                    .withName("crm.public.account.Envelope").withRecord(row).withSource(SOURCE).build();
            return new Table(row, envelope, isDecimal);
        }

        Struct row(long id, String name, String revenue, String updatedAt) {
            Object amount = revenue == null ? null : isDecimal ? new BigDecimal(revenue) : Double.valueOf(revenue);
            return new Struct(row)
                    .put("id", id).put("name", name).put("domain", "company" + id + ".example")
                    .put("annual_revenue", amount)
                    .put("founded", (int) java.time.LocalDate.of(2009, 3, 14).toEpochDay())
                    .put("renewal_at", "2025-06-30T22:00:00+02:00")
                    .put("updated_at", Instant.parse(updatedAt).toEpochMilli() * 1000 + 123);
        }
    }

    /** The schema ids under which the test's registry knows the two Avro schemas. */
    private static final int KEY_ID = 1;
    private static final int VALUE_ID = 2;

    private record Change(String note, long id, Object value, Instant at) {}

    private static Struct source(Instant at, String snapshot) {
        return new Struct(SOURCE).put("connector", "postgresql").put("ts_ms", at.toEpochMilli())
                .put("snapshot", snapshot).put("schema", "public").put("table", "account");
    }

    private static List<Change> changes(Table table) {
        Envelope envelope = table.envelope;
        List<Change> changes = new ArrayList<>();
        Instant t = Instant.parse("2025-01-10T08:00:00Z");
        for (long id = 1; id <= 3; id++) {
            Struct row = table.row(id, "Company " + id, "1250000.50", "2025-01-09T10:00:00Z");
            changes.add(new Change("snapshot", id, envelope.read(row, source(t, "true"), t), t));
        }
        Struct created = table.row(4, "Company 4", null, "2025-01-11T09:30:00Z");
        Instant t1 = Instant.parse("2025-01-11T09:30:01Z");
        changes.add(new Change("create", 4, envelope.create(created, source(t1, "false"), t1), t1));
        Struct before = table.row(2, "Company 2", "1250000.50", "2025-01-09T10:00:00Z");
        Struct after = table.row(2, "Company Two", "2500000.75", "2025-01-12T12:00:00Z");
        Instant t2 = Instant.parse("2025-01-12T12:00:01Z");
        changes.add(new Change("update", 2, envelope.update(before, after, source(t2, "false"), t2), t2));
        Struct gone = table.row(3, "Company 3", "1250000.50", "2025-01-09T10:00:00Z");
        Instant t3 = Instant.parse("2025-01-13T07:00:00Z");
        changes.add(new Change("delete", 3, envelope.delete(gone, source(t3, "false"), t3), t3));
        changes.add(new Change("tombstone", 3, null, t3));
        return changes;
    }

    private static String base64(byte[] bytes) {
        return bytes == null ? "null" : "\"" + Base64.getEncoder().encodeToString(bytes) + "\"";
    }

    private static void line(PrintWriter out, Change change, byte[] key, byte[] value) {
        out.printf("{\"note\": \"%s\", \"timestamp\": %d, \"key\": %s, \"value\": %s}%n",
                change.note, change.at.toEpochMilli(), base64(key), base64(value));
    }

    private static void json(Path file, boolean withSchemas) throws Exception {
        JsonConverter keys = new JsonConverter();
        JsonConverter values = new JsonConverter();
        keys.configure(Map.of("schemas.enable", String.valueOf(withSchemas)), true);
        values.configure(Map.of("schemas.enable", String.valueOf(withSchemas)), false);
        // Without schemas nothing says the scale of a decimal.
        Table table = Table.of(withSchemas);
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(file))) {
            for (Change change : changes(table)) {
                byte[] key = keys.fromConnectData("t", KEY, new Struct(KEY).put("id", change.id));
                byte[] value = values.fromConnectData(
                        "t", change.value == null ? null : table.envelope.schema(), change.value);
                line(out, change, key, value);
            }
        }
    }

    private static byte[] avro(AvroData data, Schema schema, Object value, int id) throws Exception {
        if (value == null) {
            return null;
        }
        org.apache.avro.Schema avro = data.fromConnectSchema(schema);
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream frame = new DataOutputStream(bytes);
        frame.writeByte(0);
        frame.writeInt(id);
        var encoder = EncoderFactory.get().directBinaryEncoder(frame, null);
        new GenericDatumWriter<Object>(avro).write(data.fromConnectData(schema, value), encoder);
        return bytes.toByteArray();
    }

    private static void avro(Path folder) throws Exception {
        AvroData data = new AvroData(16);
        Table table = Table.of(true);
        Schema envelope = table.envelope.schema();
        Files.writeString(folder.resolve("debezium-key.avsc"), data.fromConnectSchema(KEY).toString(true) + "\n");
        Files.writeString(
                folder.resolve("debezium-value.avsc"),
                data.fromConnectSchema(envelope).toString(true) + "\n",
                StandardCharsets.UTF_8);
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(folder.resolve("debezium-avro.jsonl")))) {
            for (Change change : changes(table)) {
                Struct key = new Struct(KEY).put("id", change.id);
                line(out, change, avro(data, KEY, key, KEY_ID), avro(data, envelope, change.value, VALUE_ID));
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        Files.createDirectories(folder);
        json(folder.resolve("debezium-json.jsonl"), false);
        json(folder.resolve("debezium-json-schemas.jsonl"), true);
        avro(folder);
    }
}
