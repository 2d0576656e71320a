"""The unpacked build context, sorted: which template it asks for, and the code that becomes a layer.

    CODE/function/…   the function's folder
    CODE/…            the template's own files, where the template came with the context and is made for this

A context that OpenFaaS's client made also carries that template's Dockerfile, server and requirements, whose place our
runtime takes.
"""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from builder.context import InvalidContext
from builder.ignore import always_ignored
from builder.requirements import Requirements, read_requirements
from builder.templates import HANDLER_FOLDER, TEMPLATE_FILE, Template, Templates, read_template_file, template_of


def arranged(folder: Path, templates: Templates) -> tuple[Template, Path]:
    """Sort the context that was unpacked into `folder/context`; return its template and the folder of its code.

    Raises InvalidContext, and what finding a template does.
    """
    context, code = folder / "context", folder / "code"
    template, function = _sorted(context, templates)
    code.mkdir()
    function.rename(code / HANDLER_FOLDER)
    if not template.built_in:
        _add_template(context, code)
    _drop_ignored(code)
    return template, code


def python_requirements(code: Path, template: Template) -> Requirements:
    """Return what the function asks for, after what its template does. Raises InvalidRequirements."""
    requirements = read_requirements(code / HANDLER_FOLDER)
    return requirements if template.built_in else read_requirements(code) + requirements


def is_handler_file(relative: str) -> bool:
    """Whether the file lies directly in the function's folder, where the handler and its modules are."""
    return PurePosixPath(relative).parent == PurePosixPath(HANDLER_FOLDER)


def _sorted(context: Path, templates: Templates) -> tuple[Template, Path]:
    """The template that the context asks for, and where the function's folder is in it."""
    if not (context / TEMPLATE_FILE).is_file():
        hint = " (lang: dockerfile cannot be built here)" if (context / "Dockerfile").exists() else ""
        raise InvalidContext(f"the build context has no {TEMPLATE_FILE}, which names the language{hint}")
    said = read_template_file(context / TEMPLATE_FILE)
    language = str(said.get("language") or "")
    if said.get("command"):
        template = template_of(said, context, language, built_in=False)
    else:
        template = templates.find_runnable(language)
    handler = PurePosixPath(str(said.get("handler_folder") or HANDLER_FOLDER))
    function = context / handler
    if ".." in handler.parts or handler.is_absolute() or function.is_symlink() or not function.is_dir():
        raise InvalidContext(f"the build context has no folder {str(handler)!r}")
    return template, function


def _add_template(context: Path, code: Path) -> None:
    """Move the template's own files into the code, beside `function/`."""
    for path in sorted(context.iterdir()):
        if path.name not in (TEMPLATE_FILE, "Dockerfile", HANDLER_FOLDER):
            path.rename(code / path.name)


def _drop_ignored(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if always_ignored(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
