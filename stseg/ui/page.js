() => {
  // The slider is the one place that knows the frame: buttons, keys, the timeline and Play move it
  // as a hand would, and the server hears of nothing else.
  const PERIOD = 140;
  let timer = null;

  const range = () => document.querySelector('#frame input[type=range]');
  const playButton = () => document.querySelector('#play');

  function go(frame) {
    const slider = range();
    if (!slider || slider.disabled) return false;
    const value = Math.min(Math.max(frame, Number(slider.min)), Number(slider.max));
    if (value === Number(slider.value)) return false;
    slider.value = value;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    return true;
  }

  function step(by) {
    const slider = range();
    if (slider) go(Number(slider.value) + by);
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    if (playButton()) playButton().textContent = 'Play';
  }

  function toggle() {
    if (timer !== null) { pause(); return; }
    playButton().textContent = 'Pause';
    timer = setInterval(() => {
      const slider = range();
      if (!slider || slider.disabled) { pause(); return; }
      const last = Number(slider.value) >= Number(slider.max);
      go(last ? Number(slider.min) : Number(slider.value) + 1);
    }, PERIOD);
  }

  document.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Where arrows have a meaning of their own they keep it.
    const own = 'input, textarea, select, video, [role=tab], [role=listbox], [contenteditable=true]';
    if (event.target.closest && event.target.closest(own)) return;
    event.preventDefault();
    step(event.key === 'ArrowRight' ? 1 : -1);
  });

  window.stseg = {go, step, toggle, pause};
}
