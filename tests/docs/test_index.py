"""A stranger finds everything: links lead somewhere, and docs/README.md leads to every document."""

import re

import pytest

from .pages import ROOT, anchors, page

DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))


def links(document: str) -> list[str]:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page(document), flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def lost(document: str) -> list[str]:
    """The links of a document that lead nowhere."""
    found = []
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(str(target.resolve().relative_to(ROOT)))):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(document: str) -> None:
    assert lost(document) == []


def test_index_leads_to_every_document() -> None:
    told = {link.partition("#")[0] for link in links("docs/README.md")}
    there = {document.removeprefix("docs/") for document in DOCUMENTS if document.startswith("docs/")}
    assert there - told == {"README.md"}


def test_readme_leads_to_the_index_and_the_first_steps() -> None:
    told = links("README.md")
    assert {"docs/README.md", "docs/quickstart.md", "docs/comparison.md", "docs/migrating.md"} <= set(told)
