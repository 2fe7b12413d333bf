"""What a plan is tuned by: gates, thresholds of findings, nodules, and what each optimisation costs."""
