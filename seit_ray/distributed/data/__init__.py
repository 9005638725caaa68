"""Ray Data: images are tokenised and classified; Ray actors fit a tokenizer."""
