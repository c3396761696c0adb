# An image for training. CPU: docker build -t tfclip .   GPU: docker build -t tfclip --build-arg EXTRAS=gpu .
ARG BASE=python:3.11-slim
# hadolint ignore=DL3006
FROM ${BASE}
ARG EXTRAS=datasets

WORKDIR /opt/tfclip
COPY setup.cfg setup.py pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY tfclip ./tfclip
RUN python -m pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" && tfclip --version

WORKDIR /work
ENTRYPOINT ["tfclip"]
CMD ["--help"]
