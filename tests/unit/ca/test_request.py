from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.ca.chain import read_private_key
from mesh.ca.issuance import read_csr
from mesh.ca.request import certificate_request, new_key_and_csr
from tests.support.certificates import WEB, p256_key


def test_a_new_key_comes_with_its_request():
    key_pem, csr_pem = new_key_and_csr(WEB)
    assert read_csr(csr_pem) == read_private_key(key_pem).public_key()


def test_keys_are_new_and_p256():
    first, second = new_key_and_csr(WEB), new_key_and_csr(WEB)
    assert first[0] != second[0]
    assert isinstance(read_private_key(first[0]).curve, ec.SECP256R1)


def test_a_request_names_who_it_is_for():
    request = x509.load_pem_x509_csr(certificate_request(WEB, p256_key()))
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier(WEB.uri)]
