"""FHIR R4 at the edge: what a hospital's system sends is read leniently, what we send is written strictly."""
