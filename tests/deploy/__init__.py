"""What is deployed: the compose file, the image and the Helm chart."""
