"""FHIR R4 resources made from a result, and the EHR client. Import as `dicom_node.fhir`."""

# Started from the repository root, Python finds this folder before the one of `fhir.resources`; this lets it find both.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
