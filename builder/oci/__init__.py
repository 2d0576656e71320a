"""Container images as files: the OCI image format, a layout of blobs on this disk, layers as tar archives."""
