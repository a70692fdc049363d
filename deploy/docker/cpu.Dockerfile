# The service on a CPU. From the project's root:
#   docker build -f deploy/docker/cpu.Dockerfile -t segmentation:cpu .
#   python -c 'import secrets; print(secrets.token_urlsafe())' > key
#   docker run --read-only --tmpfs /tmp -p 8080:8080 -v $PWD/bundle:/bundle:ro \
#     -v $PWD/key:/key:ro segmentation:cpu --config /bundle/deploy.yaml --api_key_file /key
# Without a key whoever reaches the port may use it, by an IP address or a name in --allowed_host;
# then publish it as 127.0.0.1:8080:8080.
# With OpenVINO, the fastest on Intel CPUs (then: --backend openvino, INT8 with --precision int8):
#   docker build --build-arg EXTRA=openvino -f deploy/docker/cpu.Dockerfile ...
FROM python:3.12-slim AS packages
ARG EXTRA=serve
WORKDIR /build
COPY requirements/serve.txt requirements/openvino.txt requirements/
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
      -r requirements/serve.txt -r requirements/$EXTRA.txt

FROM python:3.12-slim
# libgomp1: the threads of PaddlePaddle's kernels. Debian keeps no older versions to pin.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serve
COPY --from=packages /opt/venv /opt/venv
COPY paddleseg_ext /app/paddleseg_ext
WORKDIR /app
USER 10001
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "paddleseg_ext", "serve", "--host", "0.0.0.0"]
CMD ["--config", "/bundle/deploy.yaml"]
