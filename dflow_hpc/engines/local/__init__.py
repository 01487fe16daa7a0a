"""The engine that interprets a manifest on one machine, without a cluster and without a service."""
