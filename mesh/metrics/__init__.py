"""What can be counted and measured, as Prometheus reads it: values in, text out, no I/O."""
