"""The limits that the system sets to this process (`ulimit`)."""


def process_limit(name: str) -> int | None:
    """A limit such as `RLIMIT_NOFILE`, in its own unit; None where there is none (Windows)."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    limit = resource.getrlimit(getattr(resource, name))[0]
    return None if limit == resource.RLIM_INFINITY else limit
