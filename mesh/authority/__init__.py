"""The certificate authority as a service: who proves what, and what is signed for it."""
