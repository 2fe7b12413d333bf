"""Free-response ROC: which lesions are found at how many false positives per scan, and how suspicious a scan is."""
