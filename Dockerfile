# An image with one binary: built here, run by nobody's user on a root file system that may be read-only.
#
#   docker build --tag leadpulse .
#   docker run --read-only --tmpfs /tmp leadpulse --help
FROM rust:1.95.0-slim-bookworm AS build
# The compiler, make and Perl build librdkafka and its TLS; versions are Debian's of this image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The symbol table goes, the panic's lines stay in the log by name. Features: s3, gs, az.
ARG FEATURES=""
RUN cargo build --release --locked --package leadpulse --features "${FEATURES}" \
    && strip --strip-debug target/release/leadpulse \
    && target/release/leadpulse init --out /etc/leadpulse \
    && mkdir -p /out/var/lib/leadpulse /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="leadpulse" \
    org.opencontainers.image.description="Keeps the probability that every account, contact and lead will buy up to date" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /source/target/release/leadpulse /usr/local/bin/leadpulse
# The shipped CRM: schemas and a configuration. Mount your own over it.
COPY --from=build /etc/leadpulse /etc/leadpulse
# Folders of volumes, owned by the user: a named volume takes the owner from here.
COPY --from=build --chown=65532:65532 /out/var/lib/leadpulse /var/lib/leadpulse
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /etc/leadpulse
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/leadpulse"]
CMD ["run"]
