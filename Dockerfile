# The node with SQLite and folders, or with the database named by DICOM_NODE__DATABASE__URL. Runs as a user without rights.
#
# On Linux the default build of torch brings GPU libraries of several gigabytes. Name an index that holds CPU builds to
# get the same version without them: docker build --build-arg PIP_EXTRA_INDEX_URL=… .

FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/dicom-node
WORKDIR /src
# Libraries first: they change less often than the node.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir dicom_node && touch dicom_node/__init__.py \
 && /opt/dicom-node/bin/pip install --constraint constraints.txt '.[inference]' \
 && /opt/dicom-node/bin/pip uninstall --yes dicom-node && rm -r dicom_node build
COPY . .
RUN /opt/dicom-node/bin/pip install --no-deps .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/dicom-node dicom-node \
 && install -d -o dicom-node -g dicom-node -m 700 /var/lib/dicom-node
COPY --from=build /opt/dicom-node /opt/dicom-node
ENV PATH=/opt/dicom-node/bin:$PATH PYTHONUNBUFFERED=1 DICOM_NODE__NODE__DATA_DIR=/var/lib/dicom-node
USER dicom-node
WORKDIR /var/lib/dicom-node
VOLUME /var/lib/dicom-node
EXPOSE 11112 8042
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8042/readyz', timeout=4)"]
ENTRYPOINT ["dicom-node"]
CMD ["serve"]
