"""A service mesh for services that run without Kubernetes."""
