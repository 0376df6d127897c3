# The image of `signet`: the program, its production dependencies and what Node itself links to. No shell, no package manager,
# nothing to write to but what is mounted. `docker build .` needs BuildKit for the stages to run side by side, and nothing else.

# By version, so that a build next year is on the same Node.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No install script of any package runs here: the compiler needs none.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.ts scripts/
COPY src src
RUN node scripts/build.ts && find dist -name '*.d.ts' -delete

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# Types, sources and maps are for those who develop with a package.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
    && find node_modules -type f \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' \) -delete

# The root file system of the last stage: Node with the libraries it asks for, names for the resolver, a user without rights.
FROM ${NODE_IMAGE} AS root
WORKDIR /image
RUN ldd /usr/local/bin/node | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} . \
    && mkdir -p etc tmp usr/local/bin var/lib/signet \
    && cp /usr/local/bin/node usr/local/bin/ \
    && echo 'hosts: files dns' > etc/nsswitch.conf \
    && echo 'signet:x:65532:65532::/var/lib/signet:/nonexistent' > etc/passwd \
    && echo 'signet:x:65532:' > etc/group \
    # There is no env(1) for the shebang of bin/signet.js.
    && printf '#!/usr/local/bin/node\nimport("/app/bin/signet.js");\n' > usr/local/bin/signet \
    && chmod 0755 usr/local/bin/signet \
    && chmod 1777 tmp \
    # A new volume that is mounted here takes this owner and mode.
    && chown 65532:65532 var/lib/signet && chmod 0700 var/lib/signet

FROM scratch AS signet
LABEL org.opencontainers.image.title="signet" \
      org.opencontainers.image.description="An Envoy SDS control plane" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=root /image /
WORKDIR /app
COPY package.json LICENSE ./
COPY bin bin
COPY proto proto
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
ENV NODE_ENV=production SIGNET_DATA=/var/lib/signet
# By number, so that Kubernetes' runAsNonRoot can tell.
USER 65532:65532
# Asked over the admin socket: it holds for every address that the server may listen on. Fails when it can't sign.
HEALTHCHECK --interval=15s --timeout=10s --start-period=10s --retries=3 CMD ["signet", "status"]
ENTRYPOINT ["signet"]
CMD ["--help"]
