"""The report's templates: jinja2 with escaping on, from the files in `templates/`."""

import base64
import re
from typing import Any

import jinja2
from markupsafe import Markup

# What no HTML file may hold, even escaped: control characters and lone surrogates.
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _printable(value: Any) -> Any:
    """Text with � for what no HTML file may hold; markup and other values as they are."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNPRINTABLE.sub("\ufffd", value)
    return value


def figure(value: Any) -> str:
    """A value for people: floats with four significant digits, counts with separators."""
    if isinstance(value, str | bool):
        return str(value)
    if value is None:
        return "–"
    try:
        number = float(value)  # numpy's and JAX's numbers, too
    except (TypeError, ValueError):
        return str(value)
    whole = number.is_integer() and not isinstance(value, float)
    return f"{int(number):,}" if whole else f"{number:.4g}"


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("evaluation.report"),
    autoescape=True,
    finalize=_printable,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    figure=figure,
    tenth=lambda number: f"{number:.1f}",
    base64=lambda data: base64.b64encode(data).decode(),
)


def render(template: str, **values: Any) -> Markup:
    """A template of `templates/` filled in: markup, in which values are escaped."""
    return Markup(_ENVIRONMENT.get_template(template).render(**values))
