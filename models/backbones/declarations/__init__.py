"""What every backbone declares about itself, a small file each; the networks lie in other files. No torch here."""
