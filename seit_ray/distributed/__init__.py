"""The only package that imports ray: clusters, the tokenising job, training workers."""
