"""What a run costs: time, GPU memory, CPU and RAM as the organisers measure; Table 4; the benchmark and its peers."""
