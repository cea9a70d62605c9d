"""The health check's PDUs, read by a DICOM library that had no part in making them."""

import pytest
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ

from pacs_operator.render.gate_check import associate_request, release_request


@pytest.mark.parametrize("called", ["A", "RADIOLOGY", "SIXTEEN.LETTERS!"])
def test_the_request_proposes_verification_alone(called: str):
    pdu = A_ASSOCIATE_RQ()
    encoded = associate_request("PACSPROBE", called)
    pdu.decode(encoded)
    asked = pdu.to_primitive()
    assert (asked.calling_ae_title.strip(), asked.called_ae_title.strip()) == ("PACSPROBE", called)
    (context,) = asked.presentation_context_definition_list
    assert context.abstract_syntax == "1.2.840.10008.1.1"
    assert context.transfer_syntax == ["1.2.840.10008.1.2"]
    assert asked.application_context_name == "1.2.840.10008.3.1.1.1"
    assert asked.maximum_length_received == 16384
    assert asked.implementation_class_uid is not None
    assert asked.implementation_class_uid.is_valid
    assert pdu.encode() == encoded


def test_the_release():
    pdu = A_RELEASE_RQ()
    pdu.decode(release_request())
    assert pdu.encode() == release_request()
