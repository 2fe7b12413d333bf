"""The harness: measures the product as the challenge's organisers do, and makes the sample CTs it is tested on."""
