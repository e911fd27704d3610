"""What a trained model can be asked, each verb on plain Python values."""
