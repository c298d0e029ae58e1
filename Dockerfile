# The node with SQLite and folders, or with the database named by DICOM_NODE__DATABASE__URL. Runs as a user without rights.
#
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<index of CPU builds> .       a node that computes on processors
#   docker build --target cuda .                                               one that computes on GPUs of NVIDIA
#
# On Linux the default build of torch brings GPU libraries of several gigabytes; an index of CPU builds has the same version
# without them. What an image holds is in it: /opt/dicom-node/share/dicom-node, as CycloneDX and as a list of licences.

FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/dicom-node && python -m venv /opt/sbom
WORKDIR /src
# Libraries first: they change less often than the node.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir dicom_node && touch dicom_node/__init__.py \
 && /opt/dicom-node/bin/pip install --constraint constraints.txt '.[inference]' \
 && /opt/dicom-node/bin/pip uninstall --yes dicom-node && rm -r dicom_node build
RUN /opt/sbom/bin/pip install --constraint constraints.txt cyclonedx-bom
COPY . .
RUN /opt/dicom-node/bin/pip install --no-deps . \
 && mkdir -p /opt/dicom-node/share/dicom-node \
 && /opt/sbom/bin/python -m tools.sbom /opt/dicom-node/bin/python /opt/dicom-node/share/dicom-node/sbom.cdx.json \
 && cp LICENSE docs/reference/licences.md /opt/dicom-node/share/dicom-node

# The published build of the OHIF viewer, as pinned in tools/ohif/package.json.
FROM node:22-bookworm-slim AS viewer
WORKDIR /src
RUN npm pack @ohif/app@3.13.2 --ignore-scripts \
 && echo "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10  ohif-app-3.13.2.tgz" | sha512sum --check \
 && mkdir /opt/ohif && tar --extract --gzip --file ohif-app-3.13.2.tgz --directory /opt/ohif --strip-components 2 --exclude '*.map' package/dist

FROM python:3.11-slim-bookworm AS runtime
RUN groupadd --system --gid 10001 dicom-node \
 && useradd --system --uid 10001 --gid dicom-node --home-dir /var/lib/dicom-node dicom-node \
 && install -d -o dicom-node -g dicom-node -m 700 /var/lib/dicom-node
COPY --from=build /opt/dicom-node /opt/dicom-node
COPY --from=viewer /opt/ohif /opt/ohif
ENV PATH=/opt/dicom-node/bin:$PATH PYTHONUNBUFFERED=1 DICOM_NODE__NODE__DATA_DIR=/var/lib/dicom-node \
    DICOM_NODE__VIEWER__OHIF=/opt/ohif
# By number: a cluster that lets nobody run as root cannot read a name.
USER 10001:10001
WORKDIR /var/lib/dicom-node
VOLUME /var/lib/dicom-node
EXPOSE 11112 8042
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD python -c "import urllib.request as web; web.urlopen('http://127.0.0.1:8042/readyz', timeout=4)" 2>/dev/null \
   || python -c "import ssl, urllib.request as web; own = ssl.create_default_context(); own.check_hostname = False; \
own.verify_mode = ssl.CERT_NONE; web.urlopen('https://127.0.0.1:8042/readyz', timeout=4, context=own)"
ENTRYPOINT ["dicom-node"]
CMD ["serve"]

# What the container toolkit of NVIDIA asks for; the libraries of CUDA come with torch's default build.
FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS cpu
