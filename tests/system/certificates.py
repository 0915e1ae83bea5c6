"""Certificates to order, in files as programs read them."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
PEM = serialization.Encoding.PEM


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def write(path, content):
    """All of it or nothing, readable by its owner alone."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
    return path


class Authority:
    def __init__(self, directory, text, above=None, key=None):
        self.directory, self.key = directory, key or ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.make(name(text), self.key.public_key(), above, ca=True, days=(-1, 3000))
        self.pem = self.certificate.public_bytes(PEM)
        self.path = write(directory / f"{text}.crt", self.pem)

    def make(self, subject, public, issuer=None, ca=False, usages=(), days=(-1, 30), names=()):
        now = datetime.datetime.utcnow()
        issuer_name = subject if ca and issuer is None else (issuer or self).certificate.subject
        builder = x509.CertificateBuilder(issuer_name, subject, public, x509.random_serial_number(), now + days[0] * DAY, now + days[1] * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        if ca:
            builder = builder.add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign((issuer or self).key, hashes.SHA256())

    def issue(self, text, usages=(CLIENT,), days=(-1, 30), file=None, key=None, names=()):
        """A pair of files: (certificate, key). The object has `.certificate` beside."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = self.make(name(text), key.public_key(), usages=usages, days=days, names=names)
        file = self.directory / (file or text)
        return Pair(write(file.with_suffix(".crt"), certificate.public_bytes(PEM)),
                    write(file.with_suffix(".key"), key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())), certificate, key)

    def revoke(self, *certificates, days=(-1, 30)):
        """Their list, in PEM."""
        now = datetime.datetime.utcnow()
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, now + days[0] * DAY, now + days[1] * DAY)
        for certificate in certificates:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now - DAY).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


class Pair:
    def __init__(self, crt, key_file, certificate, key):
        self.crt, self.key_file, self.certificate, self.key = crt, key_file, certificate, key
