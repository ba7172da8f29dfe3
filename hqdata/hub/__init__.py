"""The Hugging Face Hub: publishing a data set as far as its licences allow, and getting it back."""
