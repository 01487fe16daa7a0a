"""Where artifacts lie and how they get there: the local store, S3, archives."""
