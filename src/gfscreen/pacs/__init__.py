"""An archive that speaks DICOMweb: series found by QIDO, fetched by WADO, results stored by STOW. Extra `pacs`."""
