# The catalogue's API. The database is a service of its own: see compose.yaml.

FROM python:3.13-slim-trixie AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY verify verify
COPY producer producer
COPY catalog catalog
COPY migrations migrations
RUN python -m venv /opt/eocat && /opt/eocat/bin/pip install --no-cache-dir ".[serve]"

FROM python:3.13-slim-trixie
RUN useradd --system --home-dir /var/lib/eocat --create-home --shell /usr/sbin/nologin eocat
COPY --from=build /opt/eocat /opt/eocat
ENV PATH=/opt/eocat/bin:$PATH PYTHONUNBUFFERED=1 EOCAT_HOME=/var/lib/eocat
USER eocat
EXPOSE 8765
CMD ["eocat", "serve", "--host", "0.0.0.0"]
