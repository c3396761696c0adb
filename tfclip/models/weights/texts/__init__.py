"""Text encoders of Hugging Face and sentence-transformers folders: modules and tokenizers."""
