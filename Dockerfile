# The first example as a service: docker build -t agent . && docker run -p 8765:8765 -e BLUEJAY_API_KEY -v spool:/var/lib/agent agent
FROM python:3.15-slim-trixie AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY bluejay_ws ./bluejay_ws
RUN python -m venv /opt/agent && /opt/agent/bin/pip install --no-cache-dir .

FROM python:3.15-slim-trixie
# Nobody's home: the agent writes to its spool and nowhere else.
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin agent \
    && install -d -o agent -g agent -m 0700 /var/lib/agent/spool
COPY --from=build /opt/agent /opt/agent
COPY examples/websockets_agent.py /app/agent.py
ENV PATH=/opt/agent/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BLUEJAY_SPOOL=/var/lib/agent/spool
USER 10001
# Reports that wait for the platform outlive the container here.
VOLUME /var/lib/agent
EXPOSE 8765
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/health', timeout=4)"]
CMD ["python", "/app/agent.py", "8765", "0.0.0.0"]
