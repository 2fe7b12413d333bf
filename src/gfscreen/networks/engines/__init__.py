"""Inference engines behind one protocol: torch (CUDA, CPU) and OpenVINO (CPU)."""
