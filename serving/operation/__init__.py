"""What runs round the routes: request ids, logs, metrics, headers, draining."""
