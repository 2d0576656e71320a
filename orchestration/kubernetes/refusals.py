"""What the API server's refusals mean to who asked the platform for something."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from orchestration.kubernetes.api import ApiError, Clash, Exists, Forbidden, Invalid, Missing, Throttled, Unreachable
from orchestration.orchestrator import AlreadyExists, NotFound, NotNow, Refused, Unavailable
from orchestration.settings import InvalidSetting


@contextlib.contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn an ApiError into an exception of the seam; `what` names the object, as in `function 'hello'`."""
    try:
        yield
    except Missing as error:
        raise NotFound(f"there is no {what}" if error.reason == "NotFound" else error.message) from None
    except Exists:
        raise AlreadyExists(f"{what} exists") from None
    except Invalid as error:
        raise InvalidSetting(plain(error.message)) from None
    except Clash as error:
        raise Refused(
            f"{what} is also managed by others, {_managers(error.message)}; change it there, or remove it and deploy it anew"
        ) from None
    except Forbidden as error:
        raise Refused(error.message) from None
    except (Throttled, Unreachable) as error:
        raise NotNow(_one_line(error), error.retry_after_s) from None
    except ApiError as error:
        raise Unavailable(error.message) from None


def _one_line(error: ApiError) -> str:
    said = " ".join(error.message.split())
    if isinstance(error, Throttled):
        return f"the Kubernetes API server takes no more requests now: {said}"
    return said if error.code == 0 else f"the Kubernetes API server is not well (status {error.code}): {said}"


def plain(message: str) -> str:
    """Take what is said about our object out of the server's sentence: `Function.pinnace.dev "x" is invalid: …`."""
    return re.sub(r'^\S+ "[^"]*" is invalid: ', "", message)


def _managers(message: str) -> str:
    """Return who owns which field, from `conflict with "NAME" using VERSION: .spec.image`."""
    found = re.findall(r'"([^"]+)"[^:]*: ?((?:\s*-? ?\.\S+)+)', message)
    told = [f"{', '.join(part.lstrip('- ') for part in fields.split())} by {name}" for name, fields in found]
    return "; ".join(told) or message
