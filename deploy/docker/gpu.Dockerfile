# The service on a GPU (CUDA 12.6). From the project's root:
#   docker build -f deploy/docker/gpu.Dockerfile -t segmentation:gpu .
#   python -c 'import secrets; print(secrets.token_urlsafe())' > key
#   docker run --gpus all --read-only --tmpfs /tmp -p 8080:8080 -v $PWD/bundle:/bundle:ro \
#     -v $PWD/key:/key:ro segmentation:gpu --config /bundle/deploy.yaml --api_key_file /key
# Without a key whoever reaches the port may use it, by an IP address or a name in --allowed_host;
# then publish it as 127.0.0.1:8080:8080.
FROM python:3.12-slim AS packages
WORKDIR /build
COPY requirements/serve.txt .
# PaddlePaddle for CUDA is in Paddle's own index and brings the CUDA libraries as packages; the
# driver comes from the host. The rest is that of the CPU.
RUN sed -i 's/^paddlepaddle==/paddlepaddle-gpu==/' serve.txt \
 && python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
      -i https://www.paddlepaddle.org.cn/packages/stable/cu126/ \
      --extra-index-url https://pypi.org/simple -r serve.txt

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
HEALTHCHECK --interval=15s --timeout=3s --start-period=120s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "paddleseg_ext", "serve", "--host", "0.0.0.0", "--device", "gpu"]
CMD ["--config", "/bundle/deploy.yaml"]
