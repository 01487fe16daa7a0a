"""The Argo engine: submits manifests to Argo Workflows through the Kubernetes API, looks on, and steers."""
