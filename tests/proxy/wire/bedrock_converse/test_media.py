"""Pictures, sound and documents: bytes within the request, or none."""

from __future__ import annotations

from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.bedrock_converse import media


def formats(shape: str) -> set[str]:
    return set(Session().get_service_model("bedrock-runtime").shape_for(shape).enum)


def test_every_format_is_one_of_aws() -> None:
    """What is passed on is what the API's description lists."""
    assert set(media._IMAGES.values()) <= formats("ImageFormat")
    assert set(media._SOUNDS) <= formats("AudioFormat")
    assert set(media._DOCUMENTS.values()) == formats("DocumentFormat")


def test_only_data_urls_are_images() -> None:
    """An address is not fetched, neither from us nor from a bucket that only we can read."""
    assert media.image("data:image/PNG;charset=x;base64,aaaa") == {
        "image": {"format": "png", "source": {"bytes": "aaaa"}}
    }
    for url in (
        "https://x/y.png",
        "s3://b/k.png",
        "data:image/png,raw",
        "data:image/png;base64,",
        5,
    ):
        assert media.image(url) is None


def test_a_document_has_its_format_from_its_type_or_its_name() -> None:
    """The type in the URL counts first; an id or an address is no document."""
    taken: set[str] = set()

    by_type = media.document({"file_data": "data:text/csv;base64,YQ==", "filename": "a.pdf"}, taken)
    by_name = media.document({"file_data": "YQ==", "filename": "Plan/B: draft.DOCX"}, taken)

    assert by_type == {"document": {"format": "csv", "name": "a", "source": {"bytes": "YQ=="}}}
    assert by_name is not None
    assert by_name["document"]["format"] == "docx"
    assert by_name["document"]["name"] == "Plan B draft"
    assert media.document({"file_data": "https://x/y.pdf", "filename": "y.pdf"}, taken) is None
    assert media.document({"file_data": "YQ==", "filename": "y.exe"}, taken) is None
    assert media.document({"file_id": "f"}, taken) is None


@given(st.lists(st.text(max_size=300), max_size=6))
def test_names_are_those_that_bedrock_takes(titles: list[str]) -> None:
    """Letters, digits, single spaces, hyphens and brackets; no two alike; never too long."""
    taken: set[str] = set()
    file = {"file_data": "data:application/pdf;base64,YQ=="}

    names = []
    for title in titles:
        block = media.document({**file, "filename": title}, taken)
        assert block is not None
        names.append(block["document"]["name"])

    assert len(set(names)) == len(names)
    for name in names:
        assert 1 <= len(name) <= 200
        assert "  " not in name
        assert all((each.isascii() and each.isalnum()) or each in " -()[]" for each in name)
