# Puma: threads of one process, which keep idle connections for a time.
bind "tcp://127.0.0.1:PORT"
threads 128, 128
persistent_timeout KEEP_ALIVE
