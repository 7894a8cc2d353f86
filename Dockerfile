# docker build -t veriflow --build-arg TORCH_INDEX=ADDRESS .
# docker run --rm -v "$PWD:/work" --user "$(id -u)" veriflow verify --network net.onnx --property p.vnnlib
FROM python:3.11-slim AS build
# The address of torch's builds without CUDA, as torch's own page of installation gives it; else torch brings CUDA.
ARG TORCH_INDEX=""
WORKDIR /source
COPY . .
RUN python -m venv /opt/veriflow \
    && /opt/veriflow/bin/pip install --no-cache-dir -c constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ".[demo,solvers]"

FROM python:3.11-slim
COPY --from=build /opt/veriflow /opt/veriflow
ENV PATH="/opt/veriflow/bin:$PATH" HOME=/tmp
RUN useradd --no-create-home veriflow && install -d -o veriflow /work
USER veriflow
WORKDIR /work
ENTRYPOINT ["veriflow"]
CMD ["--help"]
