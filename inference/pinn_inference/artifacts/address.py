"""An address as it may be shown: what a model is fetched from can have a password or a signature in it."""

import re


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password and query. It need not be a whole one."""
    bare = re.split("[?#]", url, maxsplit=1)[0]
    return re.sub("^((?:[^/]*:/+|//)?)[^/]*@", r"\1", bare)
