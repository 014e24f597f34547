ARG BASE_IMAGE=debian:bookworm
FROM ${BASE_IMAGE}

RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 440 --user-group --home-dir /app app
COPY files/serve /usr/local/bin/serve

WORKDIR /app
EXPOSE 8000
CMD ["serve"]

# Last, since they change with every build, and nothing above does.
ARG BUILD_DATE
ARG BUILD_VERSION
LABEL BUILD_DATE=${BUILD_DATE} BUILD_VERSION=${BUILD_VERSION}
