"""What is measured, and what the TPU compiler says."""
