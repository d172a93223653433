"""The bundle: its layout, manifest, ids and exported towers."""
