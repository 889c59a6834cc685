# The HTTP API on port 8000 (and the page, see compose.yaml), with the offline readers. Build: docker build -t vote-experiments .
FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 votes && mkdir /data && chown votes /data
WORKDIR /app
COPY . /app
RUN pip install --no-cache-dir '.[api,postgres,ui]'
USER votes
WORKDIR /data
ENV VOTE_EXPERIMENTS_STORE=/data/.vote_experiments/store.db VOTE_EXPERIMENTS_RUNS=/data/runs VOTE_EXPERIMENTS_PLAIN=1
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["vote-experiments", "serve", "--host", "0.0.0.0", "--port", "8000"]
