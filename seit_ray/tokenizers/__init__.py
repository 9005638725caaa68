"""From pixels to tokens and back; `contract.Tokenizer` says what every family can do."""
