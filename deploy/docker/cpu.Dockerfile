# The service on a CPU. From the project's root:
#   docker build -f deploy/docker/cpu.Dockerfile -t segmentation:cpu .
#   docker run --read-only --tmpfs /tmp -p 8080:8080 -v $PWD/bundle:/bundle:ro segmentation:cpu
FROM python:3.11-slim AS packages
COPY requirements-serving.txt .
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements-serving.txt

FROM python:3.11-slim
# libgomp1: the threads of PaddlePaddle's kernels.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serve
COPY --from=packages /opt/venv /opt/venv
COPY paddleseg_ext /app/paddleseg_ext
WORKDIR /app
USER serve
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "paddleseg_ext", "serve", "--host", "0.0.0.0"]
CMD ["--config", "/bundle/deploy.yaml"]
