// The theme that was chosen on this machine, before anything is painted; without a choice, that of the system.
{
  const theme = localStorage.getItem("leadpulse-theme");
  if (theme) document.documentElement.dataset.theme = theme;
}
