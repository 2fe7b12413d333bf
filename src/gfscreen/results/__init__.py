"""What is made of masks: `statistics` measures lesions, `preview` draws them."""
