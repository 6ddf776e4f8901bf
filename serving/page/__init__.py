"""The page for clinicians: server-rendered in Korean and English, driven by plain ES modules over the public API."""
